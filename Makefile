# Everything from nothing: needs Python 3.11 or newer, a C compiler and make.  Venvs are kept in .venvs/.

.PHONY: help demo test test-newer test-free-threaded test-consumers test-kernels wheels test-wheels lint asan bench trust docs clean
.NOTPARALLEL:

help:
	@echo 'make demo    install into a venv, then the doctor, an echo server with a client, and a file copy'
	@echo 'make test    the tests on each interpreter found; VERSIONS="3.12" for some, ARGS="-k echo" for pytest'
	@echo 'make test-newer  the same on the Pythons of Debian sid, in a root that debootstrap makes; needs root'
	@echo 'make test-free-threaded  the tests and a stress on a CPython without the GIL, which it builds'
	@echo 'make wheels  the sdist and the wheels of all Pythons, machines and C libraries into dist/; ARGS="cp313-*" for some'
	@echo 'make test-wheels  uses the wheels of dist/ in Debian roots without a compiler; ARGS=trixie for one; needs root'
	@echo 'make test-consumers  other libraries on this loop, in a venv of their own; writes the table of docs/libraries.md'
	@echo 'make test-kernels  tests on Debian'"'"'s kernels from 5.10 on, in qemu, for hours; ARGS=trixie for one; needs root'
	@echo 'make lint    style, types, stubs, spelling, and the C core with warnings as errors'
	@echo 'make bench   all benchmarks with a report, in a quarter of an hour; ARGS="--help" for its options'
	@echo 'make trust   the faults that make people leave a loop, on this one, uvloop and asyncio, half an hour'
	@echo 'make asan    the tests of the ring, streams and files on a core with AddressSanitizer'
	@echo 'make docs    the documentation as a site in .docs/html, with the reference, checked'
	@echo 'make clean   remove the venvs and everything that was built'

demo:
	@tools/demo

test:
	@tools/test $(ARGS)

test-newer:
	@tools/newer $(ARGS)

test-free-threaded:
	@tools/free-threaded $(ARGS)

wheels:
	@tools/wheels/run $(ARGS)

test-wheels:
	@tools/wheels/roots $(ARGS)

test-consumers:
	@tools/consumers $(ARGS)

test-kernels:
	@tools/kernels/run $(ARGS)

lint:
	@tools/lint

asan:
	@tools/asan $(ARGS)

bench:
	@python=$$(tools/peers) && $$python -m benchmarks $(ARGS)

trust:
	@python=$$(tools/peers) && $$python -m tests.trust --page docs/trust.md $(ARGS)

docs:
	@tools/docs

clean:
	rm -rf --one-file-system .newer .asan .free-threaded .docs .wheels .kernels
	rm -rf .venvs build dist *.egg-info benchmarks/.build benchmarks/.results .pytest_cache .mypy_cache .ruff_cache
	find uringloop -name '*.so' -delete
	find uringloop -name _cffi.c -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
