"""The campaign `faults`: what a bad day does to a machine; one clear line, nothing lost, and the next run is right."""

from tests.soak import faults_requests

KINDS = {**faults_requests.KINDS}
