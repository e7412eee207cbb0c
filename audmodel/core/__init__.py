from audmodel.core import forks as forks
