"""What survives a restart, and the file that it is written to.

    kept     what is kept of a target's record
    checks   values of a file that may hold anything
    coding   what is kept <-> plain values for JSON
    file     reading it at the start, writing it now and then and at the end

The file is one JSON object with `version` and `targets`, an object for each target. It belongs to
this program alone: another version begins anew, and nothing else is promised to read it.
"""
