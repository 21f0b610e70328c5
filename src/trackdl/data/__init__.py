"""Data: where bytes come from (`sources`), and how they become tensors.

`images` reads MNIST and Fashion-MNIST; `pictures` any picture, with `strokes` to redraw it as a digit; `greek` letters,
with `synthetic` ones where the report's cannot be had.
"""
