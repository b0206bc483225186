"""One module for each group of rows: `rows(context)` measures and yields them."""
