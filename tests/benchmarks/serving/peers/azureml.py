"""azureml-inference-server-http on loopback; its own command line binds every address."""

from azureml_inference_server_http import amlserver

amlserver.DEFAULT_HOST = "127.0.0.1"
amlserver.run()
