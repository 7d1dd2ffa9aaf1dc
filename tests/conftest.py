"""How every test runs: properties without a clock, one thread a worker, heeding Ctrl-C."""

import os
import signal

from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from manyhands.engine.compiled import kernels_serve

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: test workers share the cores

# A swarm of a test is nobody's else: tests of networks make their own, see hosts.py.
os.environ.setdefault("MANYHANDS_LAN", "0")

# Started in the background of a shell we would ignore Ctrl-C, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis_settings.register_profile(
    "house",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
hypothesis_settings.load_profile("house")


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        kernels_serve()  # compiles them the first time: before workers start, and in no test's time
