"""`python -m lifecycle_agent`: the same as the `lifecycle-agent` command."""

from lifecycle_agent.cli import main

main()
