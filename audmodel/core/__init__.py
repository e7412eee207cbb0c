from audmodel.core.process import forks as forks


# Newer releases let each fork wait for what they do, even for the rest of their
# own import, and a fork waits for all imports: neither would ever end.
# So no fork may find this import in the middle
import filelock as filelock  # isort: skip
