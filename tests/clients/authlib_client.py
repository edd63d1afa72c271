"""Authlib: client_credentials by basic, post and private_key_jwt; authorization_code with PKCE; refresh; introspection; revocation."""

import json
import os
import sys

import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.jose import JsonWebKey, jwt
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import ECKey

from browser import authorize, query

setting = json.load(open(sys.argv[1]))
issuer = setting["issuer"]
metadata = requests.get(f"{issuer}/.well-known/oauth-authorization-server", timeout=10).json()
token_endpoint = metadata["token_endpoint"]
keys = JsonWebKey.import_key_set(requests.get(metadata["jwks_uri"], timeout=10).json())


def check(token, subject=None):
    """The token verifies offline with Authlib's own code, and opens what its scopes say."""
    claims = jwt.decode(token["access_token"], keys, claims_options={
        "iss": {"essential": True, "value": issuer}, "aud": {"essential": True, "value": issuer}})
    claims.validate()
    assert claims.header["typ"] == "at+jwt", claims.header
    me = requests.get(f"{issuer}/v1/me", headers={"Authorization": f"Bearer {token['access_token']}"}, timeout=10)
    assert me.status_code == 200 and me.json()["subject"] == claims["sub"], me.text
    assert subject is None or claims["sub"] == subject, claims


machine = setting["machine"]
for method in ("client_secret_basic", "client_secret_post"):
    client = OAuth2Session(machine["client_id"], machine["client_secret"], token_endpoint_auth_method=method,
                           scope="semantic:read")
    token = client.fetch_token(token_endpoint, grant_type="client_credentials")
    assert token["scope"] == "semantic:read", token
    check(token, machine["client_id"])
    print(f"authlib: client_credentials, {method}")

    found = client.introspect_token(metadata["introspection_endpoint"], token=token["access_token"]).json()
    assert found["active"] is True and found["client_id"] == machine["client_id"], found
    revoked = client.revoke_token(metadata["revocation_endpoint"], token=token["access_token"])
    assert revoked.status_code == 200, revoked.text
    found = client.introspect_token(metadata["introspection_endpoint"], token=token["access_token"]).json()
    assert found == {"active": False}, found
    me = requests.get(f"{issuer}/v1/me", headers={"Authorization": f"Bearer {token['access_token']}"}, timeout=10)
    assert me.status_code == 401, me.text
    print(f"authlib: introspection and revocation, {method}")

signer = setting["signer"]
key = ECKey.import_key(open(signer["private_key"]).read())
client = OAuth2Session(signer["client_id"], key, scope="semantic:read",
                       token_endpoint_auth_method=PrivateKeyJWT(token_endpoint, alg="ES256"))
check(client.fetch_token(token_endpoint, grant_type="client_credentials"), signer["client_id"])
print("authlib: client_credentials, private_key_jwt")

app = setting["app"]
client = OAuth2Session(app["client_id"], redirect_uri=app["redirect_uri"], scope="semantic:read sql:run",
                       token_endpoint_auth_method="none", code_challenge_method="S256")
verifier = os.urandom(32).hex()
url, state = client.create_authorization_url(metadata["authorization_endpoint"], code_verifier=verifier)
back = authorize(url, app["redirect_uri"], setting["user"]["username"], setting["user"]["password"])
assert query(back)["iss"] == issuer and query(back)["state"] == state, back
token = client.fetch_token(token_endpoint, authorization_response=back, code_verifier=verifier)
check(token)
print("authlib: authorization_code with PKCE")

first = token["refresh_token"]
token = client.refresh_token(token_endpoint, refresh_token=first)
assert token["refresh_token"] != first
check(token)
print("authlib: refresh_token, rotated")
