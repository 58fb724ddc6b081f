"""The table of layers as Rockchip's compiler prints it."""

PRINTED = """
D RKNN: [23:38:36.878] ID   OpType   DataType Target InputShape OutputShape Cycles(DDR/NPU/Total) RW(KB) FullName
D RKNN: [23:38:36.878] 0    InputOperator      INT8     CPU    \\           (1,3,32,32)  0/0/0     0   InputOperator:pixel_values
D RKNN: [23:38:36.878] 1    Conv               INT8     NPU    (1,3,32,32),(96,3,8,8),(96)  (1,96,7,7)  4518/12288/12288  99  Conv:embed.conv_split
D RKNN: [23:38:36.878] 7    Conv               INT8     NPU    (1,96,1,17),(96,96,1,1),(96) (1,96,1,17) 561/384/561  11  Conv:blocks.0.norm1#1_mm#5
D RKNN: [23:38:36.878] 8    Conv               FLOAT16  NPU    (1,96,1,17),(96,96,1,1),(96) (1,96,1,17) 561/384/561  11  Conv:blocks.1.norm1.flat_tp_rs_mm#4
D RKNN: [23:38:36.878] 13   exSDPAttention     FLOAT16  NPU    (3,32,1,17),(3,32,1,17),(3,32,1,17) (3,32,1,17) 0/0/0 4 exSDPAttention:blocks.0.attention.mix_2sdpa
D RKNN: [23:38:36.878] 15   ConvAdd            INT8     NPU    (1,96,1,17),(96,96,1,1),(96),... (1,96,1,17) 630/384/630 12 Conv:blocks.0.proj#2_ConvAdd
D RKNN: [23:38:36.878] 62   Reshape            INT8     CPU    (1,10,1,1),(2)  (1,10)  0/0/0  0  Reshape:logits_mm_tp_rs
"""  # noqa: E501
