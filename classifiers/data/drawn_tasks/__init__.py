"""The drawn tasks of the suite: what is to be found where, in road scenes like those of `synthetic_signs`.

`boards` draws the things that are looked at and puts scenes together; each other module is a task with its exact
rules.
"""
