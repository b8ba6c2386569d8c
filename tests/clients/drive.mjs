// Drives a running daemon with LibreChat's own client library, as LibreChat does, and prints what the model would see.
//
// BASE_URL (with /v1), API_KEY, MODE = key (X-API-Key header) | url (credential in the URL) | jwt (LibreChat's token,
// signed with SIGNING_KEY, a PEM). One JSON line a scenario.
import { createHash, randomUUID, sign } from 'node:crypto';
import { AIMessage } from '@langchain/core/messages';
import {
  ToolNode,
  createBashExecutionTool,
  createBashProgrammaticToolCallingTool,
  createCodeExecutionTool,
  createProgrammaticToolCallingTool,
} from '@librechat/agents';

const { BASE_URL, API_KEY, MODE, SIGNING_KEY } = process.env;
const USER = '6650f0c2a1b2c3d4e5f60718';
const withKey = (key) => {
  const url = new URL(BASE_URL);
  if (MODE === 'url') url.username = key;
  return url.toString();
};
// A token as LibreChat's server mints it.
function token(user = USER) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const who = { principal_source: 'librechat_jwt', role: 'USER', sub: user, tenant_id: 'legacy' };
  const hashed = JSON.stringify({ chc_user_id: '', org_id: '', principal_source: who.principal_source, role: who.role,
    service_id: '', sub: who.sub, tenant_id: who.tenant_id });
  const auth_context_hash = createHash('sha256').update(hashed).digest('hex');
  const head = part({ alg: 'EdDSA', typ: 'JWT', kid: 'lc-codeapi-2026-05' });
  const body = part({ iss: 'librechat', aud: 'codeapi', iat: now, nbf: now, exp: now + 300, jti: randomUUID(), ...who,
    auth_context_hash });
  return `${head}.${body}.${sign(null, Buffer.from(`${head}.${body}`), SIGNING_KEY).toString('base64url')}`;
}
const authHeaders = (key) =>
  MODE === 'jwt' ? async () => ({ Authorization: `Bearer ${key === API_KEY ? token() : 'a.b.c'}` }) : { 'X-API-Key': key };
const options = (key) => ({ baseUrl: withKey(key), ...(MODE === 'url' ? {} : { authHeaders: authHeaders(key) }) });
const header = () =>
  MODE === 'key' ? { 'X-API-Key': API_KEY }
    : { Authorization: MODE === 'jwt' ? `Bearer ${token()}` : 'Basic ' + Buffer.from(API_KEY + ':').toString('base64') };
const report = (scenario, fields) => console.log(JSON.stringify({ scenario, ...fields }));

// One conversation: the real ToolNode keeps the files of each call and hands them to the next.
const sessions = new Map();
const node = new ToolNode({
  tools: [createCodeExecutionTool({ ...options(API_KEY), user_id: USER }), createBashExecutionTool(options(API_KEY))],
  sessions,
});
let calls = 0;
async function call(name, args) {
  const id = `call_${++calls}`;
  const message = new AIMessage({ content: '', tool_calls: [{ id, name, args, type: 'tool_call' }] });
  const result = await node.invoke({ messages: [message] });
  const answer = (Array.isArray(result) ? result : result.messages).at(-1);
  return { content: answer.content, artifact: answer.artifact, status: answer.status };
}

report('python', await call('execute_code', {
  lang: 'py',
  code: "import sys\nopen('/mnt/data/note.txt', 'w').write('from python')\nprint('hello', sys.argv[1:])",
  args: ['one', 'two words'],
}));
report('continued', await call('execute_code', {
  lang: 'py',
  code: "print(open('/mnt/data/note.txt').read())\nopen('/mnt/data/note.txt', 'a').write(', twice')",
}));
report('bash', await call('bash_tool', { command: 'cat /mnt/data/note.txt; rm /mnt/data/note.txt; echo done > /mnt/data/last.txt' }));
report('session', { names: sessions.get('execute_code')?.files?.map((file) => file.name).sort() });
report('failing', await call('execute_code', { lang: 'py', code: "print('before')\nraise SystemExit(3)" }));
report('timeout', await call('execute_code', { lang: 'py', code: "import os\nos.kill(os.getpid(), 9)" }));

// A file of the chat goes up as LibreChat's server sends it, is read by code, and the chart comes down.
const form = new FormData();
form.append('kind', 'user');
form.append('id', USER);
form.append('file', new Blob(['month,sales\n1,10\n2,30\n3,20\n'], { type: 'text/csv' }), 'sales 2026 (ü).csv');
const base = BASE_URL.replace(/\/$/, '');
const uploaded = await (await fetch(`${base}/upload`, { method: 'POST', headers: { ...header(), 'User-Id': USER }, body: form })).json();
report('upload', { uploaded });
const python = createCodeExecutionTool({ ...options(API_KEY), user_id: USER });
const chart = await python.invoke({
  type: 'tool_call',
  id: 'chart',
  name: 'execute_code',
  args: {
    lang: 'py',
    code: [
      'import pandas as pd, matplotlib.pyplot as plt',
      "frame = pd.read_csv('/mnt/data/sales 2026 (ü).csv')",
      "frame.plot(x='month', y='sales', kind='bar')",
      "plt.savefig('/mnt/data/chart.png')",
      "print(int(frame.sales.sum()))",
    ].join('\n'),
  },
  _injected_files: [{
    id: uploaded.files[0].fileId,
    resource_id: USER,
    storage_session_id: uploaded.storage_session_id,
    name: uploaded.files[0].filename,
    kind: 'user',
  }],
});
const picture = chart.artifact.files.find((file) => file.name === 'chart.png');
const query = `kind=user&id=${USER}`;
const download = await fetch(`${base}/download/${picture.storage_session_id}/${picture.id}?${query}`, { headers: header() });
report('chart', {
  content: chart.content,
  artifact: chart.artifact,
  type: download.headers.get('content-type'),
  png: Buffer.from(await download.arrayBuffer()).toString('base64'),
});

try {
  const stranger = createCodeExecutionTool({ ...options('not-the-key-at-all'), user_id: USER });
  await stranger.invoke({ lang: 'py', code: 'print(1)' });
  report('unauthorized', { error: null });
} catch (error) {
  report('unauthorized', { error: String(error.message) });
}

// Programs that call the app's tools.
const called = [];
const toolDefs = [
  { name: 'get_weather', description: 'Weather for a city. Returns dict', allowed_callers: ['code_execution'],
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] } },
  { name: 'list-users', description: 'List users', allowed_callers: ['code_execution'], parameters: { type: 'object', properties: {} } },
];
const toolMap = new Map([
  ['get_weather', { name: 'get_weather', invoke: async (input) => {
    called.push(['get_weather', input]);
    if (input.city === 'Atlantis') throw new Error('no such city');
    return { city: input.city, temp: 61 };
  } }],
  ['list-users', { name: 'list-users', invoke: async (input) => { called.push(['list-users', input]); return [{ id: 1, name: 'Ada' }]; } }],
]);
async function program(scenario, tool, args, config = {}) {
  called.length = 0;
  try {
    const answer = await tool.invoke({ type: 'tool_call', id: scenario, name: tool.name, args, toolMap, toolDefs }, config);
    report(scenario, { content: answer.content, artifact: answer.artifact, called: [...called] });
  } catch (error) {
    report(scenario, { error: String(error.message), called: [...called] });
  }
}
const ptc = createProgrammaticToolCallingTool(options(API_KEY));
const bashPtc = createBashProgrammaticToolCallingTool(options(API_KEY));
await program('ptc', ptc, { code: [
  'import asyncio',
  "a, b = await asyncio.gather(get_weather(city='SF'), list_users())",
  "print(a['temp'], b[0]['name'])",
  "print((await get_weather(city='NY'))['city'])",
  "open('/mnt/data/ptc.txt', 'w').write('x')",
].join('\n') });
await program('ptc_many', ptc, { code: 'import asyncio\nr = await asyncio.gather(*(get_weather(city=str(n)) for n in range(30)))\nprint(len(r))' });
await program('ptc_failing_tool', ptc, { code: "try:\n    await get_weather(city='Atlantis')\nexcept Exception as error:\n    print('told:', error)" });
await program('ptc_timeout', ptc, { code: "await list_users()\nimport time\ntime.sleep(60)", timeout: 1000 });
await program('ptc_plain', ptc, { code: "print('no tools')", tool_manifest: [] });
await program('bash_ptc', bashPtc, { code: [
  "w=$(get_weather '{\"city\": \"SF\"}')",
  "printf '%s\\n' \"$w\" > /mnt/data/w.json",
  "u=$(list_users '{}')",
  'echo "$w $u"',
  "get_weather '{\"city\": \"Atlantis\"}' || echo told",
].join('\n') });
const abort = new AbortController();
const aborting = program('ptc_abort', ptc, { code: "await list_users()\nimport time\ntime.sleep(30)" }, { signal: abort.signal });
setTimeout(() => abort.abort(), 1500);
await aborting;

// What the model is told of refusals.
async function refusal(scenario, args, base = {}) {
  try {
    const answer = await createCodeExecutionTool({ ...options(API_KEY), user_id: USER, ...base }).invoke(args);
    report(scenario, { error: null, answer });
  } catch (error) {
    report(scenario, { error: String(error.message) });
  }
}
await refusal('too_large', { lang: 'py', code: '#'.repeat(1_000_001) });
if (process.env.LIMITED_URL) {
  const base = { baseUrl: process.env.LIMITED_URL, authHeaders: { 'X-API-Key': API_KEY } };
  await refusal('first_of_two', { lang: 'py', code: 'print(1)' }, base);
  await refusal('second_of_two', { lang: 'py', code: 'print(1)' }, base);
}
