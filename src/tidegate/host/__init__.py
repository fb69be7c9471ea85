"""Reading a host: a record in, facts out."""
