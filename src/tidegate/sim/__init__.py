"""The mechanism of the mail of August 2005 as running code: one file per kernel file, on a virtual clock."""
