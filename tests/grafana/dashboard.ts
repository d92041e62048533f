// What a dashboard may be, made of the types that Grafana publishes: enums become the literals that JSON has, the options
// of a panel are those of its plugin, and what they do not know is an error.
import type * as Prometheus from '@grafana/grafana-foundation-sdk/prometheus';
import type * as Schema from '@grafana/schema';
import type * as Heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as NodeGraph from '@grafana/schema/dist/esm/raw/composable/nodegraph/panelcfg/x/NodeGraphPanelCfg_types.gen';
import type * as Stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as StateTimeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as Table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as TimeSeries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// Json is T as it is written: an enum by its values, without methods.
type Json<T> = T extends string ? (string extends T ? string : `${T}`)
  : T extends number ? (`${T}` extends `${infer N extends number}` ? N : T)
  : T extends boolean | null | undefined ? T
  : T extends (...args: never[]) => unknown ? never
  : T extends (infer Element)[] ? Json<Element>[]
  : T extends object ? { [K in keyof T as T[K] extends (...args: never[]) => unknown ? never : K]: Json<T[K]> }
  : T;

// Some is T of which anything may be left out: Grafana has defaults.
type Some<T> = T extends (infer Element)[] ? Some<Element>[] : T extends object ? { [K in keyof T]?: Some<T[K]> } : T;

// Grafana's types leave units and colours to be any text, and show one that it does not know as it is, or in gray. These are
// in the value formats and the palette of @grafana/data 13.2.3.
type Unit = 'none' | 'short' | 's' | 'bytes' | 'Bps' | 'reqps' | 'mps' | 'ops' | 'percent' | 'percentunit' | `suffix:${string}`;
type Colour = `${'' | 'super-light-' | 'light-' | 'semi-dark-' | 'dark-'}${'red' | 'orange' | 'yellow' | 'green' | 'blue' | 'purple'}` | 'text';

type PrometheusTarget = Omit<Json<Prometheus.Dataquery>, 'datasource' | 'refId'> & {
  datasource: { type: 'prometheus'; uid: '${prometheus_datasource}' };
  refId: string;
};
type JaegerTarget = {
  datasource: { type: 'jaeger'; uid: '${jaeger_datasource}' };
  refId: string;
  queryType: 'search' | 'dependencyGraph';
};

type Thresholds = Omit<Json<Schema.ThresholdsConfig>, 'steps'> & { steps: { value: number | null; color: Colour }[] };
type Mapping = { type: 'value'; options: Record<string, { text?: string; color: Colour; index: number }> };
type DataLink = { title: string; url: string; targetBlank: boolean };

type Property<Custom> =
  | { id: 'unit'; value: Unit }
  | { id: 'color'; value: { mode: 'fixed'; fixedColor: Colour } }
  | { id: 'thresholds'; value: Thresholds }
  | { id: 'mappings'; value: Mapping[] }
  | { id: 'links'; value: DataLink[] }
  | { [K in keyof Custom & string]-?: { id: `custom.${K}`; value: Some<Json<Custom[K]>> } }[keyof Custom & string];

type Transformation =
  | { id: 'merge'; options: Record<string, never> }
  | { id: 'organize'; options: { excludeByName: Record<string, boolean>; indexByName: Record<string, number>; renameByName: Record<string, string> } };

type PanelOf<Type extends string, Options, Custom> =
  Omit<Json<Schema.Panel>, 'type' | 'options' | 'fieldConfig' | 'targets' | 'transformations'> & {
    id: number;
    type: Type;
    title: string;
    description: string;
    gridPos: Json<Schema.GridPos>;
    targets: (PrometheusTarget | JaegerTarget)[];
    transformations?: Transformation[];
    options: Some<Json<Options>>;
    fieldConfig: {
      defaults: Omit<Json<Schema.FieldConfig>, 'custom' | 'unit' | 'thresholds' | 'mappings' | 'links' | 'noValue'> & {
        unit: Unit;
        noValue: string;
        thresholds?: Thresholds;
        mappings?: Mapping[];
        links?: DataLink[];
        custom?: Some<Json<Custom>>;
      };
      overrides: { matcher: { id: 'byName' | 'byRegexp'; options: string }; properties: Property<Custom>[] }[];
    };
  };

type Panel =
  | PanelOf<'timeseries', TimeSeries.Options, TimeSeries.FieldConfig>
  | PanelOf<'stat', Stat.Options, {}>
  | PanelOf<'heatmap', Heatmap.Options, Heatmap.FieldConfig>
  | PanelOf<'table', Table.Options, Table.FieldConfig>
  | PanelOf<'state-timeline', StateTimeline.Options, StateTimeline.FieldConfig>
  | PanelOf<'nodeGraph', NodeGraph.Options, {}>;

type Row = Omit<Json<Schema.RowPanel>, 'panels'> & { gridPos: Json<Schema.GridPos>; panels: Panel[] };

export type Dashboard = Omit<Json<Schema.Dashboard>, 'panels' | 'uid' | 'title'> & {
  uid: string;
  title: string;
  panels: (Panel | Row)[];
};
