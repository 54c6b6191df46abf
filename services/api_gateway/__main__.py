"""`python -m services.api_gateway`"""

import sys

from services.api_gateway.main import open_service
from services.serving import run

if __name__ == "__main__":
    sys.exit(run("gateway", lambda settings: settings.gateway_port, open_service))
