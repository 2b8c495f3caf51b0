"""The short-lived process: plans one transition, carries it out, answers the group."""
