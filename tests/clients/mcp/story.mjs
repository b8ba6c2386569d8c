// One story with the SDK and the call options of LibreChat: no progress callback, a timeout, an abort signal.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const say = (scenario, value) => console.log(JSON.stringify({ scenario, ...value }));
const headers = {
  Authorization: `Bearer ${process.env.GAOLER_KEY}`,
  "X-User-Id": "6650f0c2a1b2c3d4e5f60718",
  "X-Conversation-Id": process.env.GAOLER_CONVERSATION,
};
const transport = new StreamableHTTPClientTransport(new URL(`${process.env.GAOLER_URL}/mcp`), {
  requestInit: { headers },
});
const client = new Client({ name: "@librechat/api-client", version: "1.2.3" }, { capabilities: {} });
await client.connect(transport);
say("connected", {
  server: client.getServerVersion().name,
  instructions: client.getInstructions().length,
  session: transport.sessionId.length,
});

const { tools } = await client.listTools();
say("tools", { names: tools.map((tool) => tool.name).sort() });

async function call(name, args, options = {}) {
  const controller = new AbortController();
  const settings = { timeout: 60000, resetTimeoutOnProgress: true, signal: controller.signal, ...options };
  return client.callTool({ name, arguments: args }, undefined, settings);
}
const text = (result) => result.content.filter((block) => block.type === "text").map((block) => block.text).join("\n");

await call("write_file", { path: "in.csv", text: "a,b\n1,2\n3,4\n" });
const chart = await call("execute_code", {
  code: "import pandas as pd\nimport matplotlib.pyplot as plt\ndf = pd.read_csv('in.csv')\ndf.plot()\nplt.show()\nprint(df.b.sum())",
});
const image = chart.content.find((block) => block.type === "image");
say("chart", { text: text(chart), kind: image?.mimeType, bytes: image ? Buffer.from(image.data, "base64").length : 0 });
say("state", { text: text(await call("execute_code", { code: "len(df)" })) });
say("read", { text: text(await call("read_file", { path: "in.csv", first_line: 2, lines: 1 })) });

await call("start_process", { command: "echo begun; cat; echo ended" });
await call("write_stdin", { process: "p1", text: "typed\n", close: true });
say("process", { text: text(await call("read_process", { process: "p1", wait: 20, until: "ended", position: 0 })) });

const controller = new AbortController();
setTimeout(() => controller.abort("given up"), 500);
try {
  const answer = await call(
    "execute_code",
    { code: "import time\ntime.sleep(40)\nopen('late', 'w')" },
    { signal: controller.signal },
  );
  say("cancel", { error: `none, but an answer: ${JSON.stringify(answer)}` });
} catch (error) {
  say("cancel", { error: String(error) });
}
try {
  const answer = await call("run_command", { command: "sleep 40" }, { timeout: 700 });
  say("timeout", { error: `none, but an answer: ${JSON.stringify(answer)}` });
} catch (error) {
  say("timeout", { error: String(error.message) });
}
say("after", { text: text(await call("run_command", { command: "ls" })) });
const { resources } = await client.listResources();
say("resources", { names: resources.map((resource) => resource.name) });
await call("close_session", { delete_files: true });
await transport.terminateSession();
await client.close();
