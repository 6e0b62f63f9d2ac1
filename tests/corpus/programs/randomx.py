"""Computes RandomX hashes of a counter from Python, by ctypes, offline: randomx.py LIBRARY [interpreter]."""
import ctypes
import itertools
import sys

HARD_AES, JIT = 2, 8
library = ctypes.CDLL(sys.argv[1])
for name in ("randomx_alloc_cache", "randomx_create_vm"):
    getattr(library, name).restype = ctypes.c_void_p
flags = HARD_AES | (0 if "interpreter" in sys.argv else JIT)
cache = ctypes.c_void_p(library.randomx_alloc_cache(flags))
library.randomx_init_cache(cache, b"corpus", ctypes.c_size_t(6))
machine = ctypes.c_void_p(library.randomx_create_vm(flags, cache, None))
result = ctypes.create_string_buffer(32)
for nonce in itertools.count():
    text = b"%d" % nonce
    library.randomx_calculate_hash(machine, text, ctypes.c_size_t(len(text)), result)
