"""Run by Alembic, on the connection that `windward.cluster.schema` hands over; the transaction is the caller's."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=False)
context.run_migrations()
