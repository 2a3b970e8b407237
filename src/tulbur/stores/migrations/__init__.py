"""The schema's history, one revision a file; `tulbur.stores.migrate` runs them."""
