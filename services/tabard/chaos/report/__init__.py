"""What a run is told as: a page, JSON, and tables. All but `files` is pure: an `Outcome` in, text
out. No name that stands in a record is trusted: all of it is escaped.
"""
