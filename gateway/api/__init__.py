"""The gateway's contract: who people are, where they belong, what they may do, and the sessions they have.

One module a feature; all of it is importable from here.
"""

from gateway.api.access import *  # noqa: F403
from gateway.api.apps import *  # noqa: F403
from gateway.api.codes import *  # noqa: F403
from gateway.api.contracts import *  # noqa: F403
from gateway.api.departments import *  # noqa: F403
from gateway.api.devices import *  # noqa: F403
from gateway.api.enterprises import *  # noqa: F403
from gateway.api.factors import *  # noqa: F403
from gateway.api.identity import *  # noqa: F403
from gateway.api.invitations import *  # noqa: F403
from gateway.api.privacy import *  # noqa: F403
from gateway.api.registration import *  # noqa: F403
from gateway.api.sessions import *  # noqa: F403
from gateway.api.stepup import *  # noqa: F403
from gateway.api.support import *  # noqa: F403
from gateway.api.webhooks import *  # noqa: F403
