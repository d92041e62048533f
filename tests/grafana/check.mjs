// Checks the types of the dashboards, then those of dashboards that it spoils: each slip must be an error.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const here = dirname(fileURLToPath(import.meta.url));
const folder = join(here, '../../dashboards/grafana');

const slips = [
  ['a key that there is not', 'grpc-server', '"drawStyle"', '"drawstyle"'],
  ['a value that there is not', 'grpc-server', '"drawStyle": "line"', '"drawStyle": "lines"'],
  ['a place forgotten', 'grpc-server', '"gridPos"', '"position"'],
  ['a panel that there is not', 'grpc-client', '"type": "state-timeline"', '"type": "statetimeline"'],
  ['an option of another panel', 'grpc-server', '"cellHeight": "sm"', '"cellGap": 1'],
  ['a unit that there is not', 'grpc-runtime', '"unit": "Bps"', '"unit": "B/s"'],
  ['a unit forgotten', 'grpc-runtime', '"unit": "Bps"', '"units": "Bps"'],
  ['a colour that there is not', 'grpc-slo', '"fixedColor": "super-light-blue"', '"fixedColor": "lightest-blue"'],
  ['no text for no value', 'grpc-streams', '"noValue"', '"novalue"'],
  ['no description', 'grpc-streams', '"description"', '"about"'],
  ['a number as text', 'grpc-slo', '"decimals": 2', '"decimals": "2"'],
  ['a format of queries', 'grpc-server', '"format": "heatmap"', '"format": "histogram"'],
  ['a fixed data source', 'grpc-client', '"uid": "${prometheus_datasource}"', '"uid": "prometheus"'],
  ['a question that Jaeger does not know', 'grpc-client', '"queryType": "dependencyGraph"', '"queryType": "dependencies"'],
  ['a kind of variable', 'grpc-streams', '"type": "custom"', '"type": "choice"'],
  ['a property of an override', 'grpc-runtime', '"id": "custom.axisPlacement"', '"id": "custom.axisPlace"'],
  ['a value of an override', 'grpc-runtime', '"value": "right"', '"value": "far right"'],
  ['a kind of link', 'grpc-slo', '"type": "dashboards"', '"type": "boards"'],
  ['a transformation', 'grpc-slo', '"id": "organize"', '"id": "organise"'],
];

const sources = new Map(); // file name: its content
const names = new Map(); // file name: what people call it
const spoilt = new Set();
const add = (file, name, json) => {
  const path = join(here, `${file}.check.ts`);
  sources.set(path, `import type { Dashboard } from './dashboard';\nexport default ${json.trim()} satisfies Dashboard;\n`);
  names.set(path, name);
  return path;
};

const dashboards = readdirSync(folder).filter((f) => f.endsWith('.json')).map((f) => f.slice(0, -'.json'.length));
for (const uid of dashboards) add(uid, `dashboards/grafana/${uid}.json`, readFileSync(join(folder, `${uid}.json`), 'utf8'));
if (dashboards.length === 0) throw new Error(`there are no dashboards in ${folder}`);
slips.forEach(([name, uid, old, replacement], i) => {
  const json = readFileSync(join(folder, `${uid}.json`), 'utf8');
  if (!json.includes(old)) throw new Error(`${uid}.json has no ${old} to spoil`);
  spoilt.add(add(`slip-${i}`, `${uid}.json with ${name} (${replacement})`, json.replaceAll(old, () => replacement)));
});

const options = {
  noEmit: true, strict: true, skipLibCheck: true, types: [],
  target: ts.ScriptTarget.ESNext, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler,
};
const host = ts.createCompilerHost(options);
const { fileExists, readFile, getSourceFile } = host;
host.fileExists = (path) => sources.has(path) || fileExists(path);
host.readFile = (path) => sources.get(path) ?? readFile(path);
host.getSourceFile = (path, version, ...rest) =>
  sources.has(path) ? ts.createSourceFile(path, sources.get(path), version) : getSourceFile(path, version, ...rest);

const program = ts.createProgram([join(here, 'dashboard.ts'), ...sources.keys()], options, host);
const diagnostics = ts.getPreEmitDiagnostics(program);
const wrong = new Set(diagnostics.map((d) => d.file?.fileName));
let failures = 0;
for (const d of diagnostics) {
  if (spoilt.has(d.file?.fileName)) continue;
  failures++;
  const text = ts.flattenDiagnosticMessageText(d.messageText, '\n').split('\n').slice(0, 8).join('\n');
  // The line of the JSON file: there is one line in front of it here.
  const where = d.file ? `${names.get(d.file.fileName) ?? d.file.fileName}:${d.file.getLineAndCharacterOfPosition(d.start).line}` : 'tsc';
  console.error(`${where}: ${text}`);
}
for (const path of spoilt) {
  if (!wrong.has(path)) {
    failures++;
    console.error(`${names.get(path)}: got no error`);
  }
}
if (failures > 0) process.exit(1);
console.log(`${dashboards.length} dashboards are what @grafana/schema 13 says; ${spoilt.size} slips are not`);
