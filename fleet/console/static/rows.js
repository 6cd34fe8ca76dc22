// A table whose cells are templates of its own: the library would make each of them anew, with all that is in it,
// whenever anything on the page changes.
export default {
  template: `
    <q-table ref="qRef" :columns="columns">
      <template v-for="(_, slot) in $slots" v-slot:[slot]="given"><slot :name="slot" v-bind="given || {}" /></template>
      <template v-for="one in cells" v-slot:[one.slot]="props">
        <q-td :props="props">
          <time v-if="one.shown === 'time'" :data-ts="props.value ?? 0"></time>
          <span v-else-if="one.shown === 'state'" :class="['ef-state', 'ef-' + props.row[one.field + '_look']]">
            {{ props.value }}</span>
          <a v-else-if="props.value" :href="root + props.row[one.field + '_to']">{{ props.value }}</a>
        </q-td>
      </template>
      <template v-if="ticks" v-slot:header-selection="props">
        <q-checkbox dense v-model="props.selected" aria-label="Choose all of this page" />
      </template>
      <template v-if="ticks" v-slot:body-selection="props">
        <q-checkbox dense v-model="props.selected" :aria-label="'Choose ' + props.key" />
      </template>
    </q-table>
  `,
  props: { columns: Array, root: String, ticks: Boolean },
  computed: {
    cells() {
      return this.columns.filter((one) => one.shown).map((one) => ({ ...one, slot: `body-cell-${one.name}` }));
    },
  },
};
