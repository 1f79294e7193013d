"""Credentials for our own store, the same for every client: whatever boto3 finds.

These are keys (with a session token) in the environment, AWS_PROFILE and the files it names, web identity, pod
identity, and on AWS itself the machine's role. A web identity asks for its keys at AWS_ENDPOINT_URL too, as MinIO gives
them, unless AWS_ENDPOINT_URL_STS names another service.
"""

import logging
from typing import TYPE_CHECKING

from components.core.errors import UserError
from components.core.location import Access

if TYPE_CHECKING:
    import boto3


def session_for(access: Access) -> "boto3.Session":
    """A session with the credentials for `access`. Raises UserError where there are none.

    One of its own each time: the shared one keeps the credentials that were set when it was first used.
    """
    # Imported late: it takes a fifth of a second, and a server needs no store.
    import boto3
    import botocore.session
    from botocore.exceptions import BotoCoreError, ClientError

    # It would print what is raised and told in a sentence anyway, as a traceback.
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)
    session = botocore.session.Session()
    if access.ca_bundle:  # also for the service that gives a web identity its keys
        session.set_config_variable("ca_bundle", str(access.ca_bundle))
    try:
        if access.signed and access.endpoint:
            # Asking for the role of an AWS machine takes seconds where there is none, and means nothing to our store.
            session.get_component("credential_provider").remove("iam-role")
        if access.signed:
            found = session.get_credentials()
            if found is None:
                raise UserError(
                    f"No credentials for {access.location}; "
                    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
                )
            # An identity is changed for keys now: later each client would tell in its own way that it cannot be.
            found.get_frozen_credentials()
    # A profile that is not there, a token that cannot be read, a service that gives no keys for it.
    except (BotoCoreError, ClientError, OSError) as error:
        raise UserError(f"The credentials for {access.location} cannot be read: {error}.") from error
    return boto3.Session(botocore_session=session, region_name=access.region)
