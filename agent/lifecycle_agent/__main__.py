"""`python -m lifecycle_agent`: the same as the `lifecycle-agent` command."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # ^C while all of it is imported ends it without a word

from lifecycle_agent.cli import main  # noqa: E402

main()
