# make run          set up .venv and judge a recorded host: what tidegate is for, in one command
# make test         set up .venv and run every test that this machine can run
# make system-deps  Debian packages that the tests with guests and referees need (as root)
# make docs         write anew what is made from the code: pages of docs/, the text beside each recorded host
# make lock         renew requirements/*.lock
# make clean        remove what the others made
#
# All of it stays in this tree, needs no root (but for system-deps, and for python3-venv where it is missing) and
# may run in several clones at once.

.POSIX:
.SUFFIXES:
.PHONY: run test system-deps docs lock clean

RECORD = virtio-nbd-swap

run:
	@tools/set-up core
	@tools/show-verdict $(RECORD)

test:
	@tools/set-up test
	@tools/run-tests

system-deps:
	@tools/system-deps

docs:
	@tools/set-up test
	@.venv/bin/python tools/make_docs.py
	@.venv/bin/python -m tests.write_host_texts

lock:
	@tools/make-lock

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests bench tools hosts -name __pycache__ -type d -prune -exec rm -rf {} +
