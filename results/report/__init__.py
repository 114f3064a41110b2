"""One HTML file about the runs of a results folder: tables, plots, and what was retrieved and ranked for some pictures.

`lines` makes data of records, `series` the curves over shots and k, `charts` and `confusion` draw, `cases` chooses
samples, `page` writes the file. Pictures come from whoever calls (`cases.Pictures`): nothing here opens a benchmark, a
memory or a model.
"""
