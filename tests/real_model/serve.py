# ruff: noqa: T201 - the address is its output
"""A small language model on the CPU behind a real Messages server, from packages alone.

    python serve.py MODEL.gguf

Prints its address; ends when standard input does. Runs in an environment of its own.
"""

import sys

import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.hostnames = ["127.0.0.1"]
parameters.port = 0
parameters.n_ctx = 4096
parameters.n_parallel = 4
parameters.cpuparams.n_threads = 2
parameters.cpuparams_batch.n_threads = 2
parameters.model_alias = {"smollm2"}
parameters.n_threads_http = 8
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
