"""What Alembic runs: the numbered revisions beside this file, on the connection that it was given."""

from alembic import context

from fleet.schema import complete

with context.config.attributes["connection"].begin():
    context.configure(
        connection=context.config.attributes["connection"], target_metadata=complete(), render_as_batch=True
    )
    context.run_migrations()
