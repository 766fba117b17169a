"""The errors a person can meet, each with one line that names the fix. Knows nothing of where they are shown."""


class FlexiDepthError(Exception):
    """Something outside the code is wrong: a file, a download, a device. The command line exits with 1."""


class UsageError(FlexiDepthError, ValueError):
    """A request that cannot be carried out as asked: an empty prompt, a setting out of range. Exits with 2."""


class UnknownModelError(UsageError):
    """No bundled model, directory or Hub repository answers to the name."""


class BaseModelError(FlexiDepthError):
    """The base model's weights cannot be fetched, checked, converted or stored."""


class CheckpointError(FlexiDepthError):
    """A router and adapter checkpoint that does not fit: wrong keys, shapes, format or base model."""


class ConfigError(FlexiDepthError, ValueError):
    """A configuration with unknown keys or with values that contradict each other."""


class TrainingError(FlexiDepthError):
    """A training run that cannot go on: no room for hidden states, or kept states that belong to another run."""


class TraceError(FlexiDepthError, ValueError):
    """A trace file that is cut off, of another version, or not a trace."""


class EngineError(FlexiDepthError):
    """An engine cannot be built or run here; the message says what is missing."""
