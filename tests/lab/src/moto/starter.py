"""Starts moto as often as it is asked to, having imported it once: an import takes longer than all else that a lab does with moto.

Each line of standard input asks for one, as JSON: `ns`, the path of its network namespace; `log`, the path of the file for its
output; `images`, a file of EC2's images or null; `arguments`, those of moto_server. The answer is a line with its process id.
All end with this program, which ends with its input.
"""

import ctypes
import gc
import json
import os
import signal
import sys

# Loading moto's own catalogue of images would take longer than all the rest.
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"

import moto.server
from moto.ec2.models import amis
from moto.moto_server.werkzeug_app import create_backend_app

PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def run(request):
    os.setpgid(0, 0)
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for fd, to in (os.open("/dev/null", os.O_RDONLY), 0), (log, 1), (log, 2):
        os.dup2(fd, to)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    check(libc.setns(os.open(request["ns"], os.O_RDONLY), 0))
    if request["images"]:
        os.environ["MOTO_AMIS_PATH"] = request["images"]
        with open(request["images"], encoding="utf-8") as images:
            amis.AMIS = json.load(images)
    moto.server.main(request["arguments"])


# The parts of AWS that the lab uses are imported with the first request for them.
for service in "ec2", "secretsmanager", "ssm":
    create_backend_app(service)
# What nobody writes to stays shared with those that are started.
gc.collect()
gc.freeze()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        run(json.loads(line))
        break
    print(pid, flush=True)
