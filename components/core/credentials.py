"""Credentials for our own store, the same for every client: whatever boto3 finds.

These are keys (with a session token) in the environment, AWS_PROFILE and the files it names, web identity, pod
identity, and on AWS itself the machine's role. A web identity asks for its keys at AWS_ENDPOINT_URL too, as MinIO gives
them, unless AWS_ENDPOINT_URL_STS names another service.
"""

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
    from botocore.exceptions import BotoCoreError

    session = botocore.session.Session()
    if access.ca_bundle:  # also for the service that gives a web identity its keys
        session.set_config_variable("ca_bundle", str(access.ca_bundle))
    try:
        if access.signed and access.endpoint:
            # Asking for the role of an AWS machine takes seconds where there is none, and means nothing to our store.
            session.get_component("credential_provider").remove("iam-role")
        if access.signed and session.get_credentials() is None:
            raise UserError(
                f"No credentials for {access.location}; "
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
            )
    except (BotoCoreError, OSError) as error:  # a profile that is not there, a token file that cannot be read
        raise UserError(f"The credentials for {access.location} cannot be read: {error}.") from error
    return boto3.Session(botocore_session=session, region_name=access.region)
