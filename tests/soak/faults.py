"""The campaign `faults`: what a bad day does to a machine; one clear line, nothing lost, and the next run is right."""

from tests.soak import faults_machine, faults_requests

COUNT = 500
KINDS = {**faults_requests.KINDS, **faults_machine.KINDS}
LEFT_OUT = faults_machine.LEFT_OUT  # kind -> why it cannot run here
