"""Greek letters: the report's, a folder of one's own, or drawn from fonts."""
