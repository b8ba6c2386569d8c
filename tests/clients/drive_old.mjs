// Drives a running daemon with the client libraries of earlier LibreChats: MODULE = agents-3.1 | agents-2.4.
//
// They read LIBRECHAT_CODE_BASEURL from the environment. MODE = key (X-API-Key) | url. One JSON line a scenario.
import { AIMessage } from '@langchain/core/messages';

const { MODULE, API_KEY } = process.env;
const agents = await import(MODULE);
const USER = '6650f0c2a1b2c3d4e5f60718';
const report = (scenario, fields) => console.log(JSON.stringify({ scenario, ...fields }));
const code = agents.createCodeExecutionTool({ apiKey: API_KEY, user_id: USER });

const turns = [
  "open('/mnt/data/note.txt', 'w').write('one'); open('/mnt/data/same.txt', 'w').write('same'); print('first')",
  "print(open('/mnt/data/note.txt').read()); open('/mnt/data/note.txt', 'a').write(', two')",
  "print(open('/mnt/data/note.txt').read(), open('/mnt/data/same.txt').read())",
];
if (agents.ToolNode) {
  // From here on the library keeps the files of a conversation itself.
  const sessions = new Map();
  const node = new agents.ToolNode({ tools: [code], sessions });
  for (const [number, source] of turns.entries()) {
    const message = new AIMessage({ content: '', tool_calls: [{ id: `call_${number}`, name: 'execute_code', args: { lang: 'py', code: source }, type: 'tool_call' }] });
    const result = await node.invoke({ messages: [message] });
    const answer = (Array.isArray(result) ? result : result.messages).at(-1);
    report(`turn_${number}`, { content: answer.content, artifact: answer.artifact });
  }
} else {
  // Before, the model named the session of an earlier answer; its files were read-only, and went along by listing.
  let session_id;
  for (const [number, source] of turns.entries()) {
    const answer = await code.invoke({ type: 'tool_call', id: `call_${number}`, name: 'execute_code', args: { lang: 'py', code: source, ...(session_id ? { session_id } : {}) } });
    session_id ??= answer.artifact.session_id;
    report(`turn_${number}`, { content: answer.content, artifact: answer.artifact });
  }
}
const failing = await code.invoke({ type: 'tool_call', id: 'f', name: 'execute_code', args: { lang: 'py', code: 'raise SystemExit(3)' } });
report('failing', { content: failing.content });
try {
  const stranger = agents.createCodeExecutionTool({ apiKey: 'not-the-key-at-all', user_id: USER });
  const answer = await stranger.invoke({ lang: 'py', code: 'print(1)' });
  report('unauthorized', { error: null, answer });
} catch (error) {
  report('unauthorized', { error: String(error.message) });
}
if (agents.createProgrammaticToolCallingTool) {
  const tool = agents.createProgrammaticToolCallingTool({ apiKey: API_KEY });
  const toolDefs = [{ name: 'get_weather', description: 'Weather', allowed_callers: ['code_execution'],
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] } }];
  const toolMap = new Map([['get_weather', { name: 'get_weather', invoke: async (input) => ({ city: input.city, temp: 61 }) }]]);
  const source = "import asyncio\na, b = await asyncio.gather(get_weather(city='SF'), get_weather(city='NY'))\nprint(a['city'], b['city'])";
  const answer = await tool.invoke({ type: 'tool_call', id: 'p', name: tool.name, args: { code: source }, toolMap, toolDefs });
  report('ptc', { content: answer.content });
}
