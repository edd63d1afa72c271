"""FastAgency's OpenAPI client, made from /openapi.json: HTTPBearer with a token, OAuth2PasswordBearer with a user's password."""

import json
import sys
import tempfile
from pathlib import Path

import requests
from fastagency.api.openapi import OpenAPI
from fastagency.api.openapi.security import HTTPBearer, OAuth2PasswordBearer

setting = json.load(open(sys.argv[1]))
issuer, machine, user = setting["issuer"], setting["machine"], setting["user"]


def client():
    folder = Path(tempfile.mkdtemp(prefix="client_"))
    made = OpenAPI.create(openapi_url=f"{issuer}/openapi.json", client_source_path=str(folder))
    return {function.__name__: function for function in made._registered_funcs}, made, sys.modules[f"models_{folder.name}"]


def use(functions, models):
    datasets = functions["list_datasets"]()
    assert {"flights", "airports"} <= {dataset["name"] for dataset in datasets}, datasets
    assert functions["get_dataset"](name="flights.flights")["name"] == "flights"
    answer = functions["sql_run"](body=models.SqlRunRequest(sql="SELECT count(*) AS n FROM flights.flights"))
    assert answer["rows"] == [[336776]] or answer["rows"] == [{"n": 336776}], answer


token = requests.post(f"{issuer}/oauth/token", data={"grant_type": "client_credentials"},
                      auth=(machine["client_id"], machine["client_secret"]), timeout=10).json()["access_token"]
functions, made, models = client()
made.set_security_params(HTTPBearer.Parameters(value=token))
use(functions, models)
print(f"fastagency: HTTPBearer, {len(functions)} functions")

functions, made, models = client()
made.set_security_params(OAuth2PasswordBearer.Parameters(username=user["username"], password=user["password"]))
use(functions, models)
assert functions["me"]()["subject"] == user["user_id"]
print("fastagency: OAuth2PasswordBearer")

# The examples that came with the seed of this service.
functions, made, models = client()
assert "message" in functions["auth_test_public"]()
made.set_security_params(OAuth2PasswordBearer.Parameters(username=user["username"], password="not the password"))
try:
    functions["me"]()
except requests.HTTPError as error:
    assert error.response.status_code == 400, error
    print("fastagency: a wrong password is refused")
else:
    raise AssertionError("a wrong password got a token")
