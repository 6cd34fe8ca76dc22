"""The program on the device: it looks, decides, acts in small steps, and looks again.

Start reading at ``plan.py`` (the decision, pure), then ``phases.py`` (the table it obeys), ``execute.py`` (what each
step does) and ``loop.py`` (who calls them). Nothing that serves is a child of this program.
"""
