r"""Progress of calls that take long."""
