// A chart. Its library is a megabyte of script: it comes once the page can be used, and where there is one to be seen.
const connected = async () => {
  await new Promise((done) => setTimeout(done)); // the page makes its socket when all of it is mounted
  if (!window.socket.connected) await new Promise((done) => window.socket.once("connect", done));
};

export default {
  template: "<div></div>",
  props: { options: Object, enable3d: Boolean, renderer: String, theme: String },
  mounted() {
    this.sized = new ResizeObserver(() => this.fit());
    this.sized.observe(this.$el);
  },
  unmounted() {
    this.sized.disconnect();
    this.chart?.dispose();
  },
  methods: {
    async fit() {
      if (!this.$el.clientWidth) return;
      this.library ??= connected().then(() => import("nicegui-echart"));
      const { echarts } = await this.library;
      if (!this.$el.clientWidth) return; // it was taken away meanwhile
      if (this.chart) return this.chart.resize();
      this.chart = echarts.init(this.$el);
      this.update_chart();
    },
    update_chart() {
      const others = this.chart?.getOption()?.series?.length !== this.options.series?.length;
      this.chart?.setOption(this.options, { notMerge: others });
    },
  },
};
