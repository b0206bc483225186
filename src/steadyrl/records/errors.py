"""The one exception for what the caller can mend."""


class UserError(ValueError):
    """Input that cannot be used. The message says what is wrong, what was got and what to do.

    The command line prints it as one sentence and exits with code 2. Anything else that is raised
    is a defect of this package and keeps its traceback.
    """


class NonFiniteError(UserError):
    """A loss, a gradient, a weight or a logit is not finite: the policy has broken down."""
