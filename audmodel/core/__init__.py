from audmodel.core.process import forks as forks
