// Drives a running daemon with LibreChat's own client library, as LibreChat does, and prints what the model would see.
//
// BASE_URL (with /v1), API_KEY, MODE = key (X-API-Key header) | url (credential in the URL). One JSON line a scenario.
import { AIMessage } from '@langchain/core/messages';
import { ToolNode, createBashExecutionTool, createCodeExecutionTool } from '@librechat/agents';

const { BASE_URL, API_KEY, MODE } = process.env;
const USER = '6650f0c2a1b2c3d4e5f60718';
const withKey = (key) => {
  const url = new URL(BASE_URL);
  if (MODE === 'url') url.username = key;
  return url.toString();
};
const options = (key) => ({ baseUrl: withKey(key), ...(MODE === 'key' ? { authHeaders: { 'X-API-Key': key } } : {}) });
const header = () =>
  MODE === 'key' ? { 'X-API-Key': API_KEY } : { Authorization: 'Basic ' + Buffer.from(API_KEY + ':').toString('base64') };
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
