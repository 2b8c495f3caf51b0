"""lifecycle-agent: takes its own instance out of service before the Auto Scaling group takes it away."""

__version__ = "0.1.0"
