"""How the book is made: execute the notebooks, stage and build the pages, check what was built."""
