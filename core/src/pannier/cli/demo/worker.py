"""What `pannier worker` is given: the demo's handlers, on the storage that the environment names."""

import os

from pannier import JobQueues
from pannier.cli.demo.work import handlers

jobs = JobQueues(os.environ["PANNIER_STORAGE"], handlers=handlers)
