// A minimal Lambda runtime for Node: node bootstrap.mjs FILE calls the handler
// that FILE exports with one event after the other.
import { pathToFileURL } from "node:url";
import { resolve } from "node:path";

const { handler } = await import(pathToFileURL(resolve(process.argv[2])));
const invocation = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation/`;

for (;;) {
  const next = await fetch(invocation + "next");
  const id = next.headers.get("lambda-runtime-aws-request-id");
  const event = await next.json();
  let path = "/response";
  let body;
  try {
    body = await handler(event, { awsRequestId: id, invokedFunctionArn: next.headers.get("lambda-runtime-invoked-function-arn") });
  } catch (e) {
    path = "/error";
    body = { errorType: e.name, errorMessage: e.message, trace: String(e.stack).split("\n") };
  }
  await (await fetch(invocation + id + path, { method: "POST", body: JSON.stringify(body ?? null) })).arrayBuffer();
}
