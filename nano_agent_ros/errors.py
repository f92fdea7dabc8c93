"""The root of every error that the package raises for bad input, configuration or files."""


class NanoAgentError(Exception):
    """An error whose message names the thing that is wrong and the way out."""


class ConfigError(NanoAgentError):
    """A skills, site or parameter file is missing, malformed or inconsistent."""
