"""HTTP without a task: reading bodies, options and `Accept`, and what is known about a request.

May import app.core, app.engine and app.codecs, and the web framework; never app.tasks.
"""
