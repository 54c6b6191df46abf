"""`python -m services.worker`"""

import sys

from services.serving import run
from services.worker.main import open_service

if __name__ == "__main__":
    sys.exit(run("worker", lambda settings: settings.worker_port, open_service))
