"""Where data sets come from, and how they are brought: every file checked before it is used."""
