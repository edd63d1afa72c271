"""The peer: Flask and Authlib as their documentation shows them, with ES256 RFC 9068 tokens, introspection and no database.

One registered client in memory. Run by gunicorn; the key is read from the file in PEER_KEY.
"""

import hashlib
import hmac
import json
import os

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.jose import JsonWebKey
from authlib.oauth2.rfc6749 import ClientMixin, grants
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator, JWTIntrospectionEndpoint
from flask import Flask

ISSUER = os.environ["PEER_ISSUER"]
CLIENT_ID = os.environ["PEER_CLIENT_ID"]
SECRET_SHA256 = hashlib.sha256(os.environ["PEER_CLIENT_SECRET"].encode()).digest()
with open(os.environ["PEER_KEY"]) as file:
    KEY = JsonWebKey.import_key(file.read(), {"kty": "EC", "use": "sig", "alg": "ES256", "kid": "bench"})
KEYS = {"keys": [KEY.as_dict(is_private=True)]}


class Client(ClientMixin):
    def get_client_id(self):
        return CLIENT_ID

    def get_default_redirect_uri(self):
        return None

    def get_allowed_scope(self, scope):
        return scope if scope in ("", "semantic:read") else ""

    def check_redirect_uri(self, redirect_uri):
        return False

    def check_client_secret(self, client_secret):
        return hmac.compare_digest(hashlib.sha256(client_secret.encode()).digest(), SECRET_SHA256)

    def check_endpoint_auth_method(self, method, endpoint):
        return method == "client_secret_basic"

    def check_response_type(self, response_type):
        return False

    def check_grant_type(self, grant_type):
        return grant_type == "client_credentials"


CLIENT = Client()


class Generator(JWTBearerTokenGenerator):
    def get_jwks(self):
        return KEYS

    def get_audiences(self, client, user, scope):
        return ISSUER


class Introspection(JWTIntrospectionEndpoint):
    CLIENT_AUTH_METHODS = ["client_secret_basic"]

    def get_jwks(self):
        return KEYS

    def check_permission(self, token, client, request):
        return True


app = Flask(__name__)
app.config["OAUTH2_ACCESS_TOKEN_GENERATOR"] = False
server = AuthorizationServer(
    app,
    query_client=lambda client_id: CLIENT if client_id == CLIENT_ID else None,
    save_token=lambda token, request: None,
)
server.register_token_generator("default", Generator(issuer=ISSUER, alg="ES256", expires_generator=3600))
server.register_grant(grants.ClientCredentialsGrant)
server.register_endpoint(Introspection(issuer=ISSUER))


@app.post("/oauth/token")
def token():
    return server.create_token_response()


@app.post("/oauth/introspect")
def introspect():
    return server.create_endpoint_response(Introspection.ENDPOINT_NAME)


@app.get("/health")
def health():
    return json.dumps({"status": "ok"})
