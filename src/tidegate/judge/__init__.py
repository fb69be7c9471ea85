"""Runs a judge on cases, stores what it said, and lays it beside what the cases expect.

So far one judge: `simulate`, the mechanism as running code. `tried` says what exactly is run, `seeds` runs it over
the cores, `arms` makes one word of many runs, `reserves` looks for the smallest reserve, `side_by_side` compares
designs, `stored` keeps the words with a key that says when they are out of date, `listed` draws up the list.
"""
