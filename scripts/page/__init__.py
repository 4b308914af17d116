"""Pages that need no other file and no network: the report of a run, and the game in which a person places the looks.

The templates (`*.html`, `*.css`, `*.js`) lie beside the modules and come with the wheel. `templates.py` fills them,
`gallery.py` turns episodes into data for the report's page. Data go into a page as JSON that its script reads, and from
there into the document as text only: no name of a class or file is markup.
"""
